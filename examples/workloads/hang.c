/*
 * A workload that hangs: it says that it runs, and is not heard of again.
 */
#include "beacon.h"

PLAYED_AS("hang");

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system)
{
    beacon_start(image, system, "hang.efi");
    beacon_boot();
    say("hang.efi: hanging");
    for (;;) /* for good: beacon_start has put the watchdog to sleep */
        ;
}
