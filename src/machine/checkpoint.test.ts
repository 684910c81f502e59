import { expect, test } from "vitest";
import { Checkpointer } from "./checkpoint.ts";
import { digestOf } from "./digest.ts";
import { type Kit, machine, of, part } from "./test-kit.ts";

function scene(): { t: Kit; checkpointer: Checkpointer; act: () => void } {
  const t = machine({ enabled: "always", memory: 16 });
  const range = t.map({ huge: 1 });
  t.write(range, 3);
  const { m } = t;
  const ports = [m.profile, m.phaseTables, m.events, m.reclaim, m.mmuNotifier];
  const act = () => {
    const child = of(t.fork(), range);
    t.write(child, 5);
    t.munmap(part(range, 7, 3));
    t.map({ pages: 40 });
  };
  return { t, checkpointer: new Checkpointer([t], ports), act };
}

test("a checkpoint puts the machine back as it was, as often as one likes, and the same acts lead to the same state", () => {
  const { t, checkpointer, act } = scene();
  const { mm } = t;
  const before = digestOf(t.m);
  const saved = checkpointer.save();
  const ends: string[] = [];
  for (let nr = 0; nr < 3; nr++) {
    act();
    ends.push(digestOf(t.m));
    checkpointer.restore(saved);
    expect([nr, digestOf(t.m), t.m.mms[mm.id] === mm]).toEqual([nr, before, true]);
    t.check();
  }
  expect(new Set(ends).size).toBe(1);
  expect(ends[0]).not.toBe(before);
});

test("checkpoints of one state have one key; a change of one byte gives another", () => {
  const { t, checkpointer } = scene();
  const keyNow = () => {
    const saved = checkpointer.save();
    const key = checkpointer.keyOf(saved);
    checkpointer.discard(saved);
    return key;
  };
  const keys = [keyNow(), keyNow()];
  expect(keys[0]).toBe(keys[1]);
  for (const change of [
    () => t.m.frames.order[4095]++,
    () => t.m.frames.tag[9]++,
    () => t.m.zones[0].nrFree++,
    () => t.m.mms[t.mm.id]!.vmas.reverse(),
    () => t.m.mms.push(null),
    () => {
      t.m.queuesUnderused = !t.m.queuesUnderused;
    },
  ]) {
    change();
    keys.push(keyNow());
  }
  expect(new Set(keys).size).toBe(keys.length - 1);
});

test("maps, sets, lists and fields that came since are put back, in nested records too", () => {
  const inner = { list: [1, 2], names: new Map([["a", 1]]), seen: new Set([3]) };
  const state: Record<string, unknown> = { inner, bytes: new Uint8Array(3).fill(7), next: null };
  const checkpointer = new Checkpointer([state], []);
  const saved = checkpointer.save();
  inner.list.push(4);
  inner.list[0] = 9;
  inner.names.clear();
  inner.seen.add(5);
  state.next = { later: true };
  state.more = 1;
  (state.bytes as Uint8Array).fill(1);
  state.inner = null;
  checkpointer.restore(saved);
  expect(state).toEqual({
    inner: { list: [1, 2], names: new Map([["a", 1]]), seen: new Set([3]) },
    bytes: new Uint8Array([7, 7, 7]),
    next: null,
  });
  expect(state.inner).toBe(inner);
});
