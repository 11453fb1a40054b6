/*
 * What a machine gets when there is nothing to run now, but may be soon: it waits a minute, then
 * resets, and so asks again.
 */
#include "uefi.h"

enum { WAIT_SECONDS = 60 };

/* Waits on a timer, so that the processor can sleep meanwhile: firmware halts it until the next
   interrupt. Where there is no such timer, Stall() waits as long, but keeps the processor busy. */
static void wait(EFI_BOOT_SERVICES *boot)
{
    EFI_EVENT timer;
    UINTN which;

    if (EFI_ERROR(boot->CreateEvent(EVT_TIMER, 0, NULL, NULL, &timer)) ||
        EFI_ERROR(boot->SetTimer(timer, TimerRelative, WAIT_SECONDS * 10000000ULL)) ||
        EFI_ERROR(boot->WaitForEvent(1, &timer, &which)))
        boot->Stall(WAIT_SECONDS * 1000 * 1000);
}

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system)
{
    (void)image;
    system->ConOut->OutputString(
        system->ConOut, L"\r\ndispatch: nothing to run now, asking again in a minute\r\n");

    /* 7.5.1: the boot manager starts an image with a watchdog of five minutes. A minute fits into
       that, but a wait is no hang, and should not rest on how long the firmware's patience is. */
    system->BootServices->SetWatchdogTimer(0, 0, 0, NULL);
    wait(system->BootServices);
    system->RuntimeServices->ResetSystem(EfiResetCold, EFI_SUCCESS, 0, NULL);
    return EFI_SUCCESS; /* not reached (8.5.1) */
}
