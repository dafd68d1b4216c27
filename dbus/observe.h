/* What the manager tells, made into signals and journal entries. */
#pragma once

#include "bus.h"
#include "core/observer.h"

/* Userdata is the Bus. */
extern const Observer bus_observer;

/* Says that ImageDirectories has changed. */
void observe_image_directories(Bus *bus);
