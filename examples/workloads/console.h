/*
 * Text for the firmware's console and for the reports.
 */
#pragma once

#include "uefi.h"

extern EFI_SYSTEM_TABLE *firmware; /* set by whoever has efi_main, before anything else is called */

/* Text that grows. What does not fit any more is left out. */
struct text {
    UINTN length;
    CHAR8 bytes[4096]; /* always ends in a NUL */
};

/* Adds strings: add(&text, "one ", "two"). */
#define add(text, ...) add_all(text, (const CHAR8 *const[]){__VA_ARGS__, NULL})

/* Prints strings as one line. */
#define say(...) say_all((const CHAR8 *const[]){__VA_ARGS__, NULL})

/* A number as a string, to be used in the same statement: at most two times in one. */
const CHAR8 *decimal(UINT64 number);
const CHAR8 *hexadecimal(UINT64 number);

/* Adds the firmware's kind of string as the inside of a JSON string (RFC 8259 section 7). */
void add_json(struct text *text, const CHAR16 *string);

void add_all(struct text *text, const CHAR8 *const strings[]);
void say_all(const CHAR8 *const strings[]);
