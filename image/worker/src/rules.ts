// When an agent may sleep and when it is woken: decisions alone, so that they can be read and tested in one place.

/** The answer of `GET /api/admin/activity`. */
export interface Activity {
  known: boolean;
  busy: boolean;
  doing: string[];
  /** Seconds since 1970, or null. */
  next_wake: number | null;
}

/** A cold start with a restore takes 10-20 s; the agent is up well before its job is due. */
export const WAKE_AHEAD_SECONDS = 60;
/** A job that is due sooner is not worth a sleep. */
export const NOT_WORTH_SECONDS = 180;
/** An agent that has not answered for so long is not waited for any more. */
export const SILENT_SECONDS = 15 * 60;
/** The longest alarm ahead; a job next year is looked at again before. */
const FARTHEST_SECONDS = 30 * 24 * 3600;

export type Sleep = { sleep: true; wakeAt: number | undefined } | { sleep: false; why: string };

/** May it sleep now? Times in seconds since 1970; `silentFor` in seconds. */
export function maySleep(activity: Activity | undefined, connections: number, now: number, silentFor: number): Sleep {
  if (connections > 0) return { sleep: false, why: `${connections} connections are open` };
  if (activity === undefined || !activity.known) {
    return silentFor < SILENT_SECONDS
      ? { sleep: false, why: "the agent does not say what it is doing" }
      : { sleep: true, wakeAt: undefined };
  }
  if (activity.busy) return { sleep: false, why: `busy: ${activity.doing.join(", ")}` };
  if (activity.next_wake === null) return { sleep: true, wakeAt: undefined };
  if (activity.next_wake - now < NOT_WORTH_SECONDS) return { sleep: false, why: "a job is due soon" };
  return { sleep: true, wakeAt: Math.min(activity.next_wake - WAKE_AHEAD_SECONDS, now + FARTHEST_SECONDS) };
}

/** What a check of a container that should run finds to do. */
export type Remedy = "none" | "start" | "stop" | "kill";

/** Checks in a row without an answer, once a minute, until it is asked to stop, and until it is killed. */
export const STUCK_CHECKS = 3;
export const KILL_CHECKS = 5;

/** A container that should run: is it there, and does it answer? */
export function remedy(running: boolean, unanswered: number): Remedy {
  if (!running) return "start";
  if (unanswered >= KILL_CHECKS) return "kill";
  return unanswered === STUCK_CHECKS ? "stop" : "none";
}

/** Seconds to the next check; one that ends at once is started ever more rarely. */
export function nextCheck(failedStarts: number): number {
  return Math.min(60 * 2 ** Math.min(failedStarts, 6), 3600);
}
