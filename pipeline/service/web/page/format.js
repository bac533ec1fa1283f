// Times in the reader's zone, numbers as people read them.

import { text } from "./text.js";

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

export const timeOf = (at) => clock.format(new Date(at));
export const minuteOf = (at) => minute.format(new Date(at));
export const whenOf = (at) => full.format(new Date(at));
export const dateOf = (at) => date.format(new Date(at));

/** The time of a moment of today, else the date, too. */
export const lastOf = (at) => (dayOf(at) === text.today ? timeOf(at) : whenOf(at));

/** Today, yesterday, or the day's name. */
export function dayOf(at) {
  const that = new Date(at);
  const midnight = new Date();
  midnight.setHours(0, 0, 0, 0);
  const ago = Math.ceil((midnight - that) / 86_400_000);
  return ago <= 0 ? text.today : ago === 1 ? text.yesterday : day.format(that);
}

/** What an <input type="datetime-local"> shows for a time in UTC, and back. */
export function toLocal(at) {
  if (!at || Number.isNaN(Date.parse(at))) return "";
  const that = new Date(at);
  return new Date(that - that.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
export const fromLocal = (value) => (value ? new Date(value).toISOString() : "");

export const percent = (share) => `${Math.round(share * 100)} %`;
export const count = (number) => Number(number).toLocaleString();
export const bytes = (value) => (value < 1e6 ? `${Math.round(value / 1e3)} kB` : value < 1e9 ? `${Math.round(value / 1e6)} MB` : `${(value / 1e9).toFixed(1)} GB`);
export const ms = (value) => value >= 10_000 ? `${Math.round(value / 1000)} s` : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;

export function duration(seconds) {
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

/** The sum of counts by cause. */
export const sum = (counts) => Object.values(counts ?? {}).reduce((all, one) => all + one, 0);
