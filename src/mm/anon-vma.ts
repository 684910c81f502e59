/**
 * anon_vma: the object that leads from an anonymous page to the VMAs that may map it.
 *
 * A page names one anon_vma; an anon_vma lists its VMAs; a VMA lists the anon_vmas of itself and of the ancestors it was
 * forked from, so that a page first written in the parent is found in every descendant.
 *
 * Owns:  AnonVma records. Row ids stand in the frame table's `owner`.
 * Holds: a VMA is in the list of exactly the anon_vmas of its chain.
 */

import { assert } from "../base/assert.ts";
import { isLocked } from "../sched/locks.ts";
import type { Mm, MmState } from "./state.ts";
import { firstVmaIndex, VM_ACCESS, VM_STICKY, type Vma } from "./vma.ts";

export interface AnonVma {
  /** From 1; index in m.anonVmas. */
  readonly id: number;
  /** VMAs whose chain holds this, by the page index they begin at; equals in the order they came (ANON-333). */
  vmas: Vma[];
}

/** The anon_vma of `vma`, made (or taken over from a neighbour) at its first write fault. */
export function prepareAnonVma(m: MmState, mm: Mm, vma: Vma): AnonVma {
  if (vma.anonVma !== null) return vma.anonVma;
  const anonVma = reusableNeighbour(mm, vma) ?? newAnonVma(m);
  vma.anonVma = anonVma;
  link(vma, anonVma);
  return anonVma;
}

/** Child VMA of a fork: inherits the parent's chain and gets an anon_vma of its own for its later pages. */
export function forkAnonVma(m: MmState, parent: Vma, child: Vma): void {
  if (parent.anonVma === null) return;
  copyChain(parent, child);
  const anonVma = newAnonVma(m);
  child.anonVma = anonVma;
  link(child, anonVma);
}

/** Second half of a VMA split, or the target of a move: the same chain as `from`. */
export function copyChain(from: Vma, to: Vma): void {
  for (const anonVma of from.anonVmaChain)
    if (!to.anonVmaChain.includes(anonVma)) link(to, anonVma);
}

/** The bounds of `vma` have changed: in every list it now stands behind those that begin at the same index (ANON-333). */
export function relinkAnonVmas(vma: Vma): void {
  for (const { vmas } of vma.anonVmaChain) {
    vmas.splice(vmas.indexOf(vma), 1);
    insertByIndex(vmas, vma);
  }
}

/** Takes a VMA that goes away out of all lists; anon_vmas without VMAs are forgotten. */
export function unlinkAnonVmas(m: MmState, vma: Vma): void {
  for (const anonVma of vma.anonVmaChain) {
    const at = anonVma.vmas.indexOf(vma);
    assert(at >= 0, "a VMA's chain names an anon_vma that does not list it");
    anonVma.vmas.splice(at, 1);
    if (anonVma.vmas.length === 0) releaseAnonVma(m, anonVma);
  }
  vma.anonVmaChain = [];
  vma.anonVma = null;
}

/** True if pages of both may live under one VMA: one has none yet, or both have the same. */
export function areAnonVmasCompatible(a: Vma, b: Vma): boolean {
  if (a.anonVma === null) return b.anonVmaChain.length <= 1;
  if (b.anonVma === null) return a.anonVmaChain.length <= 1;
  return a.anonVma === b.anonVma;
}

function newAnonVma(m: MmState): AnonVma {
  const id = m.freeAnonVmaIds.pop() ?? m.anonVmas.length;
  const anonVma: AnonVma = { id, vmas: [] };
  m.anonVmas[id] = anonVma;
  return anonVma;
}

/** An operation that had the lock is through: if the last VMA went meanwhile, nobody else forgets the anon_vma. */
export function forgetAnonVmaIfUnused(m: MmState, id: number): void {
  const anonVma = m.anonVmas[id];
  if (anonVma?.vmas.length === 0) forgetAnonVma(m, anonVma);
}

function releaseAnonVma(m: MmState, anonVma: AnonVma): void {
  // Its id must not come to mean another while somebody walks it.
  if (!isLocked(m, "anonVma", anonVma.id)) forgetAnonVma(m, anonVma);
}

function forgetAnonVma(m: MmState, anonVma: AnonVma): void {
  m.anonVmas[anonVma.id] = null;
  m.freeAnonVmaIds.push(anonVma.id);
}

function link(vma: Vma, anonVma: AnonVma): void {
  vma.anonVmaChain.push(anonVma);
  insertByIndex(anonVma.vmas, vma);
}

function insertByIndex(vmas: Vma[], vma: Vma): void {
  let at = vmas.length;
  while (at > 0 && vmas[at - 1].pgoff > vma.pgoff) at--;
  vmas.splice(at, 0, vma);
}

/**
 * A neighbour that differs only in access bits lends its anon_vma, so that both can merge later. Memory that is accounted and
 * memory that is not never share one (ANON-046).
 */
function reusableNeighbour(mm: Mm, vma: Vma): AnonVma | null {
  const at = firstVmaIndex(mm.vmas, vma.start);
  for (const other of [mm.vmas[at + 1], mm.vmas[at - 1]]) {
    if (other === undefined || other.anonVma === null || other.anonVmaChain.length !== 1) continue;
    const isAdjacent = other.start === vma.end || other.end === vma.start;
    const differsInAccessOnly =
      other.file === vma.file &&
      ((other.flags ^ vma.flags) & ~(VM_ACCESS | VM_STICKY)) === 0 &&
      other.pgoffDelta === vma.pgoffDelta;
    if (isAdjacent && differsInAccessOnly) return other.anonVma;
  }
  return null;
}
