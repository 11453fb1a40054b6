/*
 * Where this program was booted from: the URL to report to, and the address that firmware had.
 */
#pragma once

#include "uefi.h"

struct origin {
    CHAR8 url[1024];       /* empty: not booted from one */
    EFI_DEVICE_PATH *path; /* leads over the network card to the URL */
    UINT8 address[4];      /* what DHCP gave to the firmware; 0.0.0.0 without IPv4 */
    UINT8 mask[4];
};

/* Fills in what it finds; returns whether that is a URL. */
BOOLEAN find_origin(EFI_HANDLE image, struct origin *origin);
