/*
 * What a machine gets when nothing is left to run: it says so and powers itself off.
 */
#include "uefi.h"

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system)
{
    (void)image;
    system->ConOut->OutputString(system->ConOut,
                                 L"\r\ndispatch: nothing left to run, powering off\r\n");
    system->RuntimeServices->ResetSystem(EfiResetShutdown, EFI_SUCCESS, 0, NULL);

    /* 8.5.1: ResetSystem() does not return. Firmware that cannot cut the power may do so all the
       same. It must not go on to its next boot entry then: that may be the disk of a machine which
       everybody takes to be off. So it stays here, without the watchdog (7.5.1) that resets it. */
    system->ConOut->OutputString(
        system->ConOut, L"dispatch: this firmware did not cut the power, please switch it off\r\n");
    system->BootServices->SetWatchdogTimer(0, 0, 0, NULL);
    for (;;)
        system->BootServices->Stall(1000 * 1000);
}
