/* crew.h - threads, or processes, that stand ready, so that starting them is not timed. */
#ifndef BENCH_CREW_H
#define BENCH_CREW_H

struct crew;

/* Makes so many threads. 0 or a negative errno. */
int crew_open(unsigned thread_count, struct crew **ret_crew);

/* The same with processes, which begin as copies of this one: of what is written after this, on either side, they see
 * only what lies in shared mappings. They end with this process. */
int crew_open_processes(unsigned process_count, struct crew **ret_crew);

/* Has every thread or process call work with its number, from 0, and waits for all. 0, an error of one of them, or
 * -ECHILD: a process is gone. */
int crew_run(struct crew *crew, int (*work)(void *context, unsigned number), void *context);

/* Ends them. NULL is fine. */
void crew_close(struct crew *crew);

#endif
