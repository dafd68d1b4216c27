/* How kernel-shim.c says to whom traces a program that the program has the fake kernel: it closes
 * this. */
#pragma once

#define KERNEL_IS_THERE (-77777)
/* And that its main() begins. */
#define KERNEL_MAIN_BEGINS (-77778)

/* Files in the testbed, with a dash and a PID: a helper waits in the kernel, and was killed there.
 */
#define KERNEL_KEEPS "kept"
#define KERNEL_KILLS "killed"
