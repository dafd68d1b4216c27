// SPDX-License-Identifier: GPL-2.0
/*
 * What is written to /dev/burst goes through the first serial port, byte for byte, without the
 * port's interrupts and a FIFO at a time: under emulation within emulation each access to a port
 * costs about half a millisecond, so a MiB through the kernel's own driver takes a quarter of an
 * hour, and one REP OUTS for 16 bytes is one access.
 */
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#define DATA        0x3f8
#define LINE_STATUS 0x3fd
#define FIFO_EMPTY  0x20
#define FIFO_SIZE   16

static ssize_t burst_write(struct file *file, const char __user *data, size_t size, loff_t *at) {
        char fifo[FIFO_SIZE];
        size_t sent = 0;

        while (sent < size && !fatal_signal_pending(current)) {
                size_t n = min(size - sent, sizeof(fifo));

                if (copy_from_user(fifo, data + sent, n))
                        return -EFAULT;
                while (!(inb(LINE_STATUS) & FIFO_EMPTY))
                        if (fatal_signal_pending(current))
                                return -EINTR;
                outsb(DATA, fifo, n);
                sent += n;
                cond_resched();
        }
        return sent;
}

static const struct file_operations burst_operations = {
        .owner = THIS_MODULE,
        .write = burst_write,
};

static struct miscdevice burst_device = {
        .minor = MISC_DYNAMIC_MINOR,
        .name = "burst",
        .fops = &burst_operations,
};
module_misc_device(burst_device);

MODULE_DESCRIPTION("Writes to a serial port without its interrupts");
MODULE_LICENSE("GPL");
