// SPDX-License-Identifier: GPL-2.0
/*
 * A host driver with bad habits, for the lab's graphics cards (1234:1111): it takes its time to let
 * go of one, never lets go, or fails to probe, as its parameters say; they can be changed at any
 * time, and what waits for them goes on then. Like nvidia's (kernel-open/nvidia/nv-pci.c) it never
 * lets go of a card whose node a process has open.
 */
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>

static unsigned int remove_ms;
module_param(remove_ms, uint, 0644);
MODULE_PARM_DESC(remove_ms, "how long remove() takes");

static bool remove_hangs;
module_param(remove_hangs, bool, 0644);
MODULE_PARM_DESC(remove_hangs, "remove() does not return while this is set");

static int probe_fails;
module_param(probe_fails, int, 0644);
MODULE_PARM_DESC(probe_fails, "the errno of a probe; 0 = it succeeds");

struct card {
        struct miscdevice node; /* /dev/slow-gpu-0000:01:00.0 */
        atomic_t users;
};

static int card_open(struct inode *inode, struct file *file) {
        struct card *card = container_of(file->private_data, struct card, node);

        atomic_inc(&card->users);
        return 0;
}

static int card_release(struct inode *inode, struct file *file) {
        struct card *card = container_of(file->private_data, struct card, node);

        atomic_dec(&card->users);
        return 0;
}

static const struct file_operations card_operations = {
        .owner = THIS_MODULE,
        .open = card_open,
        .release = card_release,
};

static int slow_probe(struct pci_dev *device, const struct pci_device_id *id) {
        struct card *card;
        int r;

        if (probe_fails)
                return -probe_fails;
        card = kzalloc(sizeof(*card), GFP_KERNEL);
        if (!card)
                return -ENOMEM;
        card->node.minor = MISC_DYNAMIC_MINOR;
        card->node.name = kasprintf(GFP_KERNEL, "slow-gpu-%s", pci_name(device));
        card->node.fops = &card_operations;
        card->node.parent = &device->dev;
        r = card->node.name ? misc_register(&card->node) : -ENOMEM;
        if (r < 0) {
                kfree(card->node.name);
                kfree(card);
                return r;
        }
        pci_set_drvdata(device, card);
        return 0;
}

static void slow_remove(struct pci_dev *device) {
        struct card *card = pci_get_drvdata(device);

        msleep(remove_ms);
        while (remove_hangs || atomic_read(&card->users) > 0)
                msleep(100);
        misc_deregister(&card->node);
        while (atomic_read(&card->users) > 0)
                msleep(100);
        kfree(card->node.name);
        kfree(card);
}

static const struct pci_device_id slow_ids[] = { { PCI_DEVICE(0x1234, 0x1111) }, {} };
MODULE_DEVICE_TABLE(pci, slow_ids);

static struct pci_driver slow_driver = {
        .name = "feos_slow_gpu",
        .id_table = slow_ids,
        .probe = slow_probe,
        .remove = slow_remove,
};
module_pci_driver(slow_driver);

MODULE_DESCRIPTION("A graphics driver that does not let go");
MODULE_LICENSE("GPL");
