/* Reads which files and devices a domain's XML has as its disks, with what those are made of where
 * it says so, and what a copy of one is being written to. */
#include "hypervisor/domain-files.h"

#include <string.h>

/* The <disk> that @source is of: its own, or that of a backing file or a mirror in it. */
static xmlNode *disk_of(xmlNode *source) {
        xmlNode *node = source->parent;

        while (node->parent && strcmp((const char *)node->name, "disk") != 0)
                node = node->parent;
        return node;
}

/* A backing file is only read, also where the disk itself is written. */
static bool source_is_written(xmlNode *source) {
        return strcmp((const char *)source->parent->name, "backingStore") != 0 &&
               !xml_child(disk_of(source), "readonly");
}

/* A disk says it in <driver>, a backing file or a mirror in <format>. */
static bool source_is_qcow2(xmlNode *source) {
        xmlNode *driver =
                xml_child(source->parent, "driver") ?: xml_child(source->parent, "format");
        g_autofree char *type = driver ? xml_attribute(driver, "type") : NULL;

        return g_strcmp0(type, "qcow2") == 0;
}

static bool is_same(const DomainFile *one, const DomainFile *other) {
        return g_strcmp0(one->path, other->path) == 0 && g_strcmp0(one->pool, other->pool) == 0 &&
               g_strcmp0(one->volume, other->volume) == 0 && one->writes == other->writes &&
               one->qcow2 == other->qcow2;
}

static bool files_have(const GPtrArray *files, const DomainFile *file) {
        for (guint i = 0; i < files->len; i++)
                if (is_same(g_ptr_array_index(files, i), file))
                        return true;
        return false;
}

char *volume_find(xmlNode *source, const VolumeFinder *volumes) {
        g_autofree char *pool = xml_attribute(source, "pool");
        g_autofree char *volume = xml_attribute(source, "volume");

        return volumes && pool && volume ? volumes->find(volumes->userdata, pool, volume) : NULL;
}

static DomainFile *file_new(xmlNode *source, const VolumeFinder *volumes, bool live) {
        DomainFile *file = g_new0(DomainFile, 1);

        file->path = xml_attribute(source, "file") ?: xml_attribute(source, "dev");
        file->pool = xml_attribute(source, "pool");
        file->volume = xml_attribute(source, "volume");
        if (!file->path)
                file->path = volume_find(source, volumes);
        file->writes = source_is_written(source);
        file->qcow2 = source_is_qcow2(source);
        file->live = live;
        return file;
}

/* The volumes of a pool on other hosts have names of another kind. */
static bool is_elsewhere(const DomainFile *file) {
        return file->path && file->path[0] != '/';
}

void domain_files_add(xmlXPathContext *context, const VolumeFinder *volumes, bool live,
                      GPtrArray *files) {
        g_autoptr(xmlXPathObject) found = xml_find(
                context, "/domain/devices/disk//source[@file or @dev or (@pool and @volume)]");

        for (int i = 0; found && i < found->nodesetval->nodeNr; i++) {
                DomainFile *file = file_new(found->nodesetval->nodeTab[i], volumes, live);

                if (is_elsewhere(file) || files_have(files, file))
                        domain_file_free(file);
                else
                        g_ptr_array_add(files, file);
        }
}
