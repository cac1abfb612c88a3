/* crew.h - threads that stand ready, so that starting them is not timed. */
#ifndef BENCH_CREW_H
#define BENCH_CREW_H

struct crew;

/* Makes thread_count threads. 0 or a negative errno. */
int crew_open(unsigned thread_count, struct crew **ret_crew);

/* Has every thread call work with its number, from 0, and waits for all. 0, or an error of one of them. */
int crew_run(struct crew *crew, int (*work)(void *context, unsigned thread), void *context);

/* Ends the threads. NULL is fine. */
void crew_close(struct crew *crew);

#endif
