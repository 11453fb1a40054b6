/*
 * A workload that fails: of the three cases in its report, one did not go well.
 */
#include "beacon.h"

PLAYED_AS("fail");

static struct text report;

static void add_case(const CHAR8 *name, BOOLEAN passed, const CHAR8 *seconds, const CHAR8 *message)
{
    add(&report, report.bytes[report.length - 1] == '}' ? ", " : "", "{\"name\": \"", name);
    add(&report, "\", \"outcome\": \"", passed ? "passed" : "failed");
    add(&report, "\", \"duration\": ", seconds, ", \"message\": \"", passed ? "" : message, "\"}");
}

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system)
{
    beacon_start(image, system, "fail.efi");
    beacon_boot();
    add(&report, "{\"title\": \"1 of 3 cases failed\", \"result\": \"failed\", \"cases\": [");
    add_case("firmware says who made it", system->FirmwareVendor[0] != 0, "0", "no vendor");
    add_case("a pause of 10 ms is granted", !EFI_ERROR(system->BootServices->Stall(10 * 1000)),
             "0.01", "Stall() returned an error");
    /* The one that is meant to fail. */
    add_case("all fans turn", FALSE, "0", "fan 2: expected at least 600 turns a minute, found 0");
    add(&report, "]}");
    beacon_report(&report);
    beacon_reset();
}
