/*
 * A workload that loses its machine: it says that it runs, then the machine resets without a
 * report, as after a crash.
 */
#include "beacon.h"

PLAYED_AS("come-back");

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system)
{
    beacon_start(image, system, "come-back.efi");
    beacon_boot();
    say("come-back.efi: resetting without a report");
    beacon_reset();
}
