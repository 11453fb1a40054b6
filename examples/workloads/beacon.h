/*
 * What a workload says to the lab, over the firmware's own HTTP: that it runs (POST), and how it
 * went (PUT). No operating system, no library: EFI programs of a few KiB can be tests.
 */
#pragma once

#include "console.h"

/* What a simulated machine plays in place of this program: a line of text in its bytes. */
#define PLAYED_AS(scenario) \
    static const CHAR8 played_as[] __attribute__((used)) = "\nsim: " scenario "\n"

/* To be called first. Finds the lab by the URL that this program was booted from. */
void beacon_start(EFI_HANDLE image, EFI_SYSTEM_TABLE *system, const CHAR8 *name);

/* "I am running": POST without a body. Returns whether the lab took it. */
BOOLEAN beacon_boot(void);

/* The result: PUT with JSON. Returns whether the lab took it. */
BOOLEAN beacon_report(struct text *json);

/* Resets the machine, so that it asks the lab for its next workload. Does not return. */
_Noreturn void beacon_reset(void);
