/* What the manager tells, made into signals and journal entries. */
#pragma once

#include "core/observer.h"

/* Userdata is the Bus. */
extern const Observer bus_observer;
