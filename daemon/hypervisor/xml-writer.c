/* A thin layer over xmlTextWriter: everything goes through it, so that no text of a caller can ever
 * become markup. It knows nothing of libvirt. */
#include "hypervisor/xml-writer.h"

#include <errno.h>
#include <libxml/xmlwriter.h>

struct Writer {
        xmlBuffer *buffer;
        xmlTextWriter *xml;
        bool failed;
};

static void writer_check(Writer *writer, int r) {
        if (r < 0)
                writer->failed = true;
}

Writer *writer_new(bool indent) {
        Writer *writer = g_new0(Writer, 1);

        writer->buffer = xmlBufferCreate();
        writer->xml = writer->buffer ? xmlNewTextWriterMemory(writer->buffer, 0) : NULL;
        writer->failed = !writer->xml;
        if (indent && writer->xml) {
                writer_check(writer, xmlTextWriterSetIndent(writer->xml, 1));
                writer_check(writer, xmlTextWriterSetIndentString(writer->xml, BAD_CAST "  "));
        }
        return writer;
}

void writer_free(Writer *writer) {
        if (!writer)
                return;
        if (writer->xml)
                xmlFreeTextWriter(writer->xml);
        if (writer->buffer)
                xmlBufferFree(writer->buffer);
        g_free(writer);
}

static void writer_start(Writer *writer, const char *name, va_list attributes) {
        const char *key;

        writer_check(writer, xmlTextWriterStartElement(writer->xml, BAD_CAST name));
        while ((key = va_arg(attributes, const char *))) {
                const char *value = va_arg(attributes, const char *);

                writer_check(writer, xmlTextWriterWriteAttribute(writer->xml, BAD_CAST key,
                                                                 BAD_CAST value));
        }
}

void writer_open(Writer *writer, const char *name, ...) {
        va_list attributes;

        va_start(attributes, name);
        writer_start(writer, name, attributes);
        va_end(attributes);
}

void writer_close(Writer *writer) {
        writer_check(writer, xmlTextWriterEndElement(writer->xml));
}

void writer_leaf(Writer *writer, const char *name, ...) {
        va_list attributes;

        va_start(attributes, name);
        writer_start(writer, name, attributes);
        va_end(attributes);
        writer_close(writer);
}

void writer_text(Writer *writer, const char *name, const char *text) {
        writer_check(writer, xmlTextWriterWriteElement(writer->xml, BAD_CAST name, BAD_CAST text));
}

void writer_string(Writer *writer, const char *text) {
        writer_check(writer, xmlTextWriterWriteString(writer->xml, BAD_CAST text));
}

int writer_finish(Writer *writer, char **ret) {
        writer_check(writer, xmlTextWriterFlush(writer->xml));
        if (writer->failed)
                return -ENOMEM;
        *ret = g_strdup((const char *)xmlBufferContent(writer->buffer));
        return 0;
}

bool writer_can_say(const char *text) {
        if (!text)
                return true;
        if (!g_utf8_validate(text, -1, NULL))
                return false;
        for (const char *p = text; *p; p = g_utf8_next_char(p)) {
                gunichar c = g_utf8_get_char(p);

                if (c < 0x20 && c != '\t' && c != '\n' && c != '\r')
                        return false;
                if (c == 0xfffe || c == 0xffff)
                        return false;
        }
        return true;
}
