/* What our metadata element in a domain's XML says; see domain-xml.h for its form. Pure. */
#pragma once

#include "core/hypervisor.h"
#include "hypervisor/xml-reader.h"

/* Fills @facts: ours, first_start, autostart, stop_asked, gpus and cards. */
void metadata_read(xmlXPathContext *context, DomainFacts *facts);

/* Corrects that by the definition, which says what is to come: a domain whose definition has no
 * such element is not ours, and autostart is that of the definition. */
void metadata_read_next(xmlXPathContext *context, DomainFacts *facts);

/* Adds the GPUs that the element names to @gpus (PciAddress), each once, and to @cards
 * (CardIdentity; NULL = not wanted) those of which it says which cards they are. */
void metadata_read_gpus(xmlXPathContext *context, GArray *gpus, GArray *cards);
