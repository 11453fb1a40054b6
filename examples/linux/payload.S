// What linux.efi carries: the kernel, its initrd and its command line.

        .section .linux, "dr"
        .globl kernel_begin, kernel_end
        .p2align 4
kernel_begin:
        .incbin "vmlinuz"
kernel_end:

        .section .initrd, "dr"
        .globl initrd_begin, initrd_end
        .p2align 4
initrd_begin:
        .incbin "initrd"
initrd_end:

        .section .cmdline, "dr"
        .globl command_line
command_line:
        .incbin "cmdline"
        .byte 0
