/*
 * A workload that never says anything to the lab: to the lab it looks as if it had never booted. So
 * do those that know nothing of beacons and only do their work; see `--dispatch-expect return`.
 */
#include "beacon.h"

PLAYED_AS("no-boot");

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system)
{
    (void)image;
    firmware = system;
    say("\r\nno-beacon.efi: running, without a word to the lab");
    beacon_reset();
}
