# How every EFI program of this project is compiled; the Makefiles include this.
#
# One call of clang turns C into a .efi: its *-unknown-windows targets make the PE images that UEFI
# runs, linked by lld-link. The bytes depend on nothing but the sources and the compiler: they hold
# no time, no path and no debug information. The committed files come from the clang and lld of
# Debian 12, named here; another version makes files that are as good, but not the same.
EFI_BUILT_WITH := 14.0.6

CLANG ?= clang
EFI_INCLUDE := $(dir $(lastword $(MAKEFILE_LIST)))

EFI_TARGET_x64 := x86_64-unknown-windows
EFI_TARGET_aa64 := aarch64-unknown-windows
# Interrupts use the stack of the code that they interrupt, so nothing may lie below its end.
EFI_FLAGS_x64 := -mno-red-zone
# Nothing here needs the floating-point registers, so nothing here has to rely on them.
EFI_FLAGS_aa64 := -mgeneral-regs-only

# No C library, and none of what needs one: stack probes, stack protector, unwind tables.
EFI_CFLAGS := -std=c11 -Os -Wall -Wextra -I$(EFI_INCLUDE) -ffreestanding -nostdlib \
  -mno-stack-arg-probe -fno-stack-protector -fno-asynchronous-unwind-tables -ffunction-sections
EFI_LDFLAGS := -fuse-ld=lld -Wl,/subsystem:efi_application -Wl,/entry:efi_main -Wl,/timestamp:0

# $(call efi-build,ARCHITECTURE,SOURCES): the recipe for $@. (Firmware reads no permission bits.)
define efi-build
@mkdir -p $(@D)
$(CLANG) --target=$(EFI_TARGET_$1) $(EFI_FLAGS_$1) $(EFI_CFLAGS) $(EFI_LDFLAGS) $2 -o $@
@chmod a-x $@
endef
