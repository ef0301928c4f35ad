/* Valgrind's client requests as functions, for ctypes: see instructions.py. */
#include <valgrind/callgrind.h>

unsigned runs_here(void) { return RUNNING_ON_VALGRIND; }

/* From here on instructions are counted; what ran before was not even translated for it. */
void start(void) { CALLGRIND_START_INSTRUMENTATION; }

void zero(void) { CALLGRIND_ZERO_STATS; }

/* Write what was counted since then to the next file. */
void dump(void) { CALLGRIND_DUMP_STATS; }
