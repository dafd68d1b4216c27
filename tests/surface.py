"""What callers see of the service, read out of its source: a name for each thing, and what it is.

check-manuals compares it with the manuals, check-stable with what was released."""
import os
import re
import xml.etree.ElementTree as ElementTree

DEPRECATED = "org.freedesktop.DBus.Deprecated"
POLKIT = "polkit/org.feos.vm1.policy"
STATES = "statemachine/"
# The files of the source that are read here, besides the interfaces.
FILES = (
    POLKIT, "daemon/config.c", "daemon/core/refusal.c", "daemon/core/refusal.h",
    "daemon/core/request.c", "daemon/core/device-request.c", "dbus/journal.c", "dbus/journal.h",
    STATES + "gpu-state.c", STATES + "machine-state.c",
)


def read(source, path):
    with open(os.path.join(source, path), encoding="utf-8") as file:
        return file.read()


def found(pattern, text, where):
    """All that matches. Nothing at all: the source has changed, and we no longer understand it."""
    matches = re.findall(pattern, text, re.MULTILINE)
    if not matches:
        raise SystemExit(f"{where}: found nothing that looks like {pattern}")
    return matches


def described(element):
    """The signature of a member, with everything that binds its callers."""
    words = [element.tag]
    if element.tag == "property":
        words += [element.get("type"), element.get("access")]
    for arg in element.iter("arg"):
        words.append(f"{arg.get('direction', 'out')}:{arg.get('type')}:{arg.get('name')}")
    # That it is on its way out is said to callers and changes nothing for them.
    words += sorted(f"{note.get('name')}={note.get('value')}" for note in element.iter("annotation")
                    if note.get("name") != DEPRECATED)
    return " ".join(words)


def interface_files(folder):
    return sorted(file for file in os.listdir(folder) if file.endswith(".xml"))


def interfaces(folder):
    """The elements of every member, by its full name, as in org.feos.VM1.GPU.Bind."""
    members = {}
    for file in interface_files(folder):
        for interface in ElementTree.parse(os.path.join(folder, file)).iter("interface"):
            for element in interface:
                if element.tag in ("method", "property", "signal"):
                    members[f"{interface.get('name')}.{element.get('name')}"] = element
    return members


def codes(source):
    """The names of errors, and of what is only ever a warning."""
    names = dict(found(r"\[(REFUSAL_\w+)\] = \"(\w+)\"", read(source, "daemon/core/refusal.c"),
                       "refusal.c"))
    enum = read(source, "daemon/core/refusal.h").split("_REFUSAL_CODE_MAX")[0]
    errors, warnings = (found(r"\b(REFUSAL_[A-Z_]+),", part, "refusal.h")
                        for part in enum.split("/* Warnings only. */"))
    return [names[code] for code in errors], [names[code] for code in warnings]


def actions(source):
    tree = ElementTree.parse(os.path.join(source, POLKIT))
    return [action.get("id") for action in tree.iter("action")]


def options(source):
    """Of Create: keys and types."""
    return dict(found(r'\{ "([a-z-]+)", "([a-z{}]+)", (?:set_\w+|NULL) \}',
                      read(source, "daemon/core/request.c"), "request.c"))


def device_options(source, kind):
    """Of a disk or a NIC: keys and types. @kind is DISK or NIC."""
    return dict(found(r'\{ DEVICE_' + kind + r', "([a-z-]+)", "([a-z]+)", set_\w+ \}',
                      read(source, "daemon/core/device-request.c"), "device-request.c"))


def config_keys(source):
    """Of vmd.conf: (section, key)."""
    table = read(source, "daemon/config.c").split("static const Key keys[]")[1].split("};")[0]
    return found(r'\{ "(\w+)", "(\w+)",', table, "config.c")


def surface(folder, source):
    """All of it as {name: what it is}: the interfaces of @folder, the rest of @source."""
    things = {name: described(element) for name, element in interfaces(folder).items()}
    errors, warnings = codes(source)
    things.update({f"error {name}": "" for name in errors})
    things.update({f"warning {name}": "" for name in warnings})
    things.update({f"action {name}": "" for name in actions(source)})
    things.update({f"option {key}": kind for key, kind in options(source).items()})
    for kind in ("DISK", "NIC"):
        things.update({f"{kind.lower()} option {key}": type_ for key, type_ in
                       device_options(source, kind).items()})
    things.update({f"configuration [{section}] {key}": "" for section, key in config_keys(source)})
    for prefix, file in (("GPU", "gpu-state.c"), ("MACHINE", "machine-state.c")):
        # Events and verdicts have words too, which stay inside.
        for word in found(rf'\[{prefix}_(?!SEEN|ASK)\w+\] = "([a-z-]+)"', states(source, file), file):
            things[f"{prefix.lower()} word {word}"] = ""
    things.update({f"journal entry {id_}": "" for id_ in
                   found(r'#define JOURNAL_\w+_ID +"(\w+)"', read(source, "dbus/journal.h"),
                         "journal.h")})
    things.update({f"journal field {name}": "" for name in
                   found(r'"(FEOS_[A-Z_]+)=', read(source, "dbus/journal.c"), "journal.c")})
    return things


def states(source, file):
    """The functions that say the words of states, of what is pending, and of faults."""
    text = read(source, STATES + file)
    bodies = found(r"_(?:state|pending|fault)_to_string\([^{]*\{(?:.|\n)*?^\}", text, file)
    return "\n".join(bodies)
