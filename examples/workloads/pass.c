/*
 * A workload that passes: it looks at the firmware that runs it and reports what that calls itself.
 * A report that names no result means passed.
 */
#include "beacon.h"

PLAYED_AS("pass");

static struct text report;

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system)
{
    UINT32 revision = system->Hdr.Revision;

    beacon_start(image, system, "pass.efi");
    beacon_boot();
    add(&report, "{\"title\": \"Firmware answers\", \"body\": \"Vendor: ");
    add_json(&report, system->FirmwareVendor);
    add(&report, "\\nRevision: 0x", hexadecimal(system->FirmwareRevision));
    add(&report, "\\nUEFI: ", decimal(revision >> 16), ".", decimal((revision & 0xffff) / 10));
    add(&report, "\\n\", \"labels\": [\"firmware\"]}");
    beacon_report(&report);
    beacon_reset();
}
