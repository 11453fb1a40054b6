/*
 * The first stage of linux.efi: it starts the kernel that is embedded in the same file, and tells
 * it where it was booted from.
 *
 * Linux cannot find that out by itself. The URL stands in the device path of the image that was
 * booted, which is gone when the kernel runs; the boot variable holds it only if it was typed into
 * the firmware's setup, not if DHCP gave it. So it is passed on as `dispatch.url=` on the kernel's
 * command line. It makes no difference whether firmware fetched this file as it is, or found it as
 * \EFI\BOOT\BOOTX64.EFI in an ISO or a disk image that it fetched: in both, the path has the URL.
 */
#include "console.h"
#include "origin.h"

/* Of payload.S: sections of this very file, by the names that the Unified Kernel Image
   specification (https://uapi-group.org/specifications/specs/unified_kernel_image/) gives them. */
extern const UINT8 kernel_begin[], kernel_end[], initrd_begin[], initrd_end[];
extern const CHAR8 command_line[];

static const EFI_GUID DEVICE_PATH = EFI_DEVICE_PATH_GUID;
static const EFI_GUID LOADED_IMAGE = EFI_LOADED_IMAGE_GUID;
static const EFI_GUID LOAD_FILE2 = EFI_LOAD_FILE2_GUID;

static struct origin origin;
static struct text line;
static CHAR16 options[sizeof line.bytes];

/* The path by which Linux asks for its initrd: LINUX_EFI_INITRD_MEDIA_GUID (include/linux/efi.h) in
   a vendor-defined media node (10.3.5.3). */
static struct {
    EFI_DEVICE_PATH Vendor;
    EFI_GUID Guid;
    EFI_DEVICE_PATH End;
} initrd_path = {
    {MEDIA_DEVICE_PATH, MEDIA_VENDOR, {sizeof(EFI_DEVICE_PATH) + sizeof(EFI_GUID), 0}},
    {0x5568e427, 0x68fc, 0x4f3d, {0xac, 0x74, 0xca, 0x55, 0x52, 0x31, 0xcc, 0x68}},
    {END_DEVICE_PATH, END_ENTIRE, {sizeof(EFI_DEVICE_PATH), 0}},
};

/* 13.2.2: called twice, the first time without a buffer, for the size. */
static EFI_STATUS load_initrd(EFI_LOAD_FILE2 *this, EFI_DEVICE_PATH *path, BOOLEAN boot_policy,
                              UINTN *size, void *buffer)
{
    UINTN needed = initrd_end - initrd_begin, given = *size;

    (void)this, (void)path, (void)boot_policy;
    *size = needed;
    if (!buffer || given < needed)
        return EFI_BUFFER_TOO_SMALL;
    for (UINTN i = 0; i < needed; i++)
        ((UINT8 *)buffer)[i] = initrd_begin[i];
    return EFI_SUCCESS;
}

static EFI_LOAD_FILE2 initrd = {load_initrd};

static void write_options(EFI_LOADED_IMAGE *kernel)
{
    add(&line, command_line, " dispatch.url=", origin.url);
    for (UINTN i = 0; i < line.length; i++)
        options[i] = (UINT8)line.bytes[i];
    kernel->LoadOptions = options;
    kernel->LoadOptionsSize = (UINT32)((line.length + 1) * sizeof *options);
}

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system)
{
    EFI_BOOT_SERVICES *boot = system->BootServices;
    EFI_HANDLE kernel = NULL, initrd_handle = NULL;
    EFI_LOADED_IMAGE *loaded;
    EFI_STATUS status;

    firmware = system;
    find_origin(image, &origin);
    say("\r\nlinux.efi: starting Linux, lab is ", origin.url[0] ? origin.url : "unknown");
    status = boot->LoadImage(FALSE, image, NULL, kernel_begin, kernel_end - kernel_begin, &kernel);
    if (!EFI_ERROR(status))
        status = boot->HandleProtocol(kernel, &LOADED_IMAGE, (void **)&loaded);
    if (!EFI_ERROR(status))
        status = boot->InstallMultipleProtocolInterfaces(
            &initrd_handle, &DEVICE_PATH, &initrd_path, &LOAD_FILE2, &initrd, NULL);
    if (!EFI_ERROR(status)) {
        write_options(loaded);
        status = boot->StartImage(kernel, NULL, NULL);
    }
    say("linux.efi: Linux did not start (EFI status 0x", hexadecimal(status), ")");
    return status;
}
