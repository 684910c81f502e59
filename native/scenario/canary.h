/*
 * How many times one write to drop_caches goes over the queues of folios to be split.
 *
 * It goes over them again as long as it frees much of whatever else the kernel caches, which has nothing to do with the scenario, and
 * each time counts every folio that cannot be split (ANON-196). A folio of our own that can never be split counts the times.
 */
#ifndef SCENARIO_CANARY_H
#define SCENARIO_CANARY_H

/* Makes the folio, once; the lease must be held. */
void canary_start(void);
/* Times that its split has failed so far, 0 without a canary. */
long canary_failures(void);

#endif
