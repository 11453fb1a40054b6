#include "console.h"

EFI_SYSTEM_TABLE *firmware;

/* clang calls these two for what it cannot do in a few instructions, C library or not. */
void *memset(void *target, int value, UINTN size)
{
    for (UINTN i = 0; i < size; i++)
        ((UINT8 *)target)[i] = (UINT8)value;
    return target;
}

void *memcpy(void *target, const void *source, UINTN size)
{
    for (UINTN i = 0; i < size; i++)
        ((UINT8 *)target)[i] = ((const UINT8 *)source)[i];
    return target;
}

static void add_byte(struct text *text, CHAR8 byte)
{
    if (text->length + 1 < sizeof text->bytes) {
        text->bytes[text->length++] = byte;
        text->bytes[text->length] = 0;
    }
}

void add_all(struct text *text, const CHAR8 *const strings[])
{
    for (; *strings; strings++)
        for (const CHAR8 *byte = *strings; *byte; byte++)
            add_byte(text, *byte);
}

void add_json(struct text *text, const CHAR16 *string)
{
    for (; *string; string++)
        if (*string == '"' || *string == '\\' || *string < ' ' || *string > '~') {
            add(text, "\\u");
            for (int shift = 12; shift >= 0; shift -= 4)
                add_byte(text, "0123456789abcdef"[*string >> shift & 15]);
        } else
            add_byte(text, (CHAR8)*string);
}

static const CHAR8 *digits(UINT64 number, UINTN base)
{
    static CHAR8 buffers[2][24];
    static UINTN turn;
    CHAR8 *first = &buffers[turn++ % 2][23];

    do
        *--first = "0123456789abcdef"[number % base];
    while (number /= base);
    return first;
}

const CHAR8 *decimal(UINT64 number)
{
    return digits(number, 10);
}

const CHAR8 *hexadecimal(UINT64 number)
{
    return digits(number, 16);
}

void say_all(const CHAR8 *const strings[])
{
    CHAR16 one[] = {0, 0};

    for (; *strings; strings++)
        for (const CHAR8 *byte = *strings; *byte; byte++) {
            one[0] = (UINT8)*byte;
            firmware->ConOut->OutputString(firmware->ConOut, one);
        }
    firmware->ConOut->OutputString(firmware->ConOut, L"\r\n");
}
