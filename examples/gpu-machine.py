#!/usr/bin/python3
"""Boots a machine with GPUs of this host, shuts it down after Enter, and waits until they are home.

    apt install python3-gi
    ./gpu-machine.py                                   lists the GPUs
    ./gpu-machine.py NAME [OPTION=TEXT]... ADDRESS...  such as box image=ubuntu.qcow2 01:00.0
"""
import sys

from gi.repository import Gio, GLib

VM1 = "org.feos.VM1"
GPU = "org.feos.VM1.GPU"
MACHINE = "org.feos.VM1.Machine"

bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)


def call(path, interface, method, signature="", *arguments):
    """The answer, a tuple. polkit may ask for a password, and drivers take their time."""
    return bus.call_sync(VM1, path, interface, method, GLib.Variant(f"({signature})", arguments), None,
                         Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION, GLib.MAXINT32).unpack()


def get(path, interface, name):
    return call(path, "org.freedesktop.DBus.Properties", "Get", "ss", interface, name)[0]


def list_gpus():
    for address, state, driver, model, machine, _ in call("/org/feos/VM1", VM1, "ListGPUs")[0]:
        print(f"{address}  {state:10}  {driver:10}  {model}  {machine}")


def create(name, gpus, options):
    """The machine's object when it runs, or an exception when nothing is left of it."""
    options = {key: GLib.Variant("s", text) for key, text in options.items()}
    options["memory-mib"] = GLib.Variant("t", 1024)
    return call("/org/feos/VM1", VM1, "Create", "sasa{sv}", name, gpus, options)[0]


def wait_for(gpus):
    """Sleeps until the service tells of a change, and looks anew, until all of them are home."""
    changes = bus.signal_subscribe(VM1, "org.freedesktop.DBus.Properties", "PropertiesChanged", None,
                                   None, Gio.DBusSignalFlags.NONE, lambda *_: None)
    for gpu in gpus:
        while get(gpu, GPU, "State") != "host-bound" or get(gpu, GPU, "Pending"):
            if get(gpu, GPU, "Fault"):
                call(gpu, GPU, "Recover")  # One that does not come says why.
            GLib.MainContext.default().iteration(True)
    bus.signal_unsubscribe(changes)


def main(arguments):
    list_gpus()
    if len(arguments) < 2:
        return
    name, *rest = arguments
    options = dict(argument.split("=", 1) for argument in rest if "=" in argument)
    machine = create(name, [argument for argument in rest if "=" not in argument], options)
    print(f"{machine} runs. Enter shuts it down.", file=sys.stderr)
    sys.stdin.readline()
    gpus = get(machine, MACHINE, "GPUs")
    call(machine, MACHINE, "Shutdown")
    wait_for(gpus)
    call(machine, MACHINE, "Delete")
    print("Its GPUs are home, and it is deleted.")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except GLib.Error as error:
        # The name is for programs; the message says what is wrong and, at its end, what to do.
        remote = Gio.DBusError.get_remote_error(error)
        Gio.DBusError.strip_remote_error(error)
        sys.exit(f"{remote or 'error'}: {error.message}")
