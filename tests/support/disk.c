/*
 * Stands between a program and its disk (LD_PRELOAD): what the test wants to happen to a file, happens at the write that it
 * names. tests/disk.py builds it and says in the environment what it is to do:
 *
 *   DISK_FILE   files whose path begins with this are meant
 *   DISK_SERVER commits that are sent to a socket whose path begins with this are meant: before each, and right after it
 *   DISK_STEPS  count only the beginning and the end of each commit: its first write, and the flush that makes it last
 *   DISK_AT     what happens, happens at this step, counted from 1 over all threads
 *   DISK_SIGN   steps are counted from when this file is there
 *   DISK_PARENT the process that started this one is killed with it
 *   DISK_ERRNO  this error, from that step on for good; else the process is killed there: halfway through a write, and right
 *               after a flush
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long step;
static int flushed = 1;

static long number(const char *name)
{
	const char *text = getenv(name);

	return text ? atol(text) : 0;
}

/* Whether the test means this file; of the journal's own, the shared memory beside it is no file that lasts. */
static int meant(int fd)
{
	const char *file = getenv("DISK_FILE");
	char link[64], path[PATH_MAX];
	ssize_t size;

	if (!file)
		return 0;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	size = readlink(link, path, sizeof path - 1);
	if (size < 0)
		return 0;
	path[size] = 0;
	return !strncmp(path, file, strlen(file)) && !strstr(path, "-shm") && !strstr(path, ".lock");
}

/* Counts a write or a flush; returns 1 if the process is to be killed at it, and otherwise the error, negative, or 0. */
static long at(int is_flush)
{
	const char *sign = getenv("DISK_SIGN");
	long when = number("DISK_AT"), error = number("DISK_ERRNO"), result = 0;

	if (sign && access(sign, F_OK))
		return 0;
	pthread_mutex_lock(&lock);
	if (is_flush || flushed || !number("DISK_STEPS"))
		step++;
	else if (!error)
		when = 0;
	flushed = is_flush;
	if (when && error && step >= when)
		result = -error;
	else if (when && step == when)
		result = 1;
	pthread_mutex_unlock(&lock);
	return result;
}

static void die(void)
{
	if (number("DISK_PARENT"))
		kill(getppid(), SIGKILL);
	kill(getpid(), SIGKILL);
}

static long done(long result)
{
	if (result >= 0)
		return result;
	errno = (int)-result;
	return -1;
}

static ssize_t put(int fd, const void *bytes, size_t size, off_t offset)
{
	long fate = meant(fd) ? at(0) : 0;

	if (fate < 0)
		return done(fate);
	if (fate) {
		syscall(SYS_pwrite64, fd, bytes, size / 2, offset);
		die();
	}
	return syscall(SYS_pwrite64, fd, bytes, size, offset);
}

static int flush(long call, int fd)
{
	long fate = meant(fd) ? at(1) : 0, result;

	if (fate < 0)
		return (int)done(fate);
	result = syscall(call, fd);
	if (fate)
		die();
	return (int)result;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
	return put(fd, bytes, size, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t offset)
{
	return put(fd, bytes, size, offset);
}

/* Whether this tells a database server that is meant to commit. */
static int commits(int fd, const void *bytes, size_t size)
{
	const char *server = getenv("DISK_SERVER");
	struct sockaddr_un peer;
	socklen_t length = sizeof peer;

	if (!server || getpeername(fd, (struct sockaddr *)&peer, &length) || peer.sun_family != AF_UNIX)
		return 0;
	return !strncmp(peer.sun_path, server, strlen(server)) && memmem(bytes, size, "COMMIT", sizeof "COMMIT");
}

ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
	int commit = commits(fd, bytes, size);
	ssize_t result;

	if (commit && at(0) > 0)
		die();
	result = syscall(SYS_sendto, fd, bytes, size, flags, NULL, 0);
	if (commit && at(1) > 0)
		die();
	return result;
}

int fsync(int fd)
{
	return flush(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	return flush(SYS_fdatasync, fd);
}
