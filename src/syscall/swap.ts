/**
 * swapon(2) and swapoff(2), with the device given by its size or its number instead of a path.
 *
 * Privileges are not modelled: the caller may do it.
 */

import type { Err } from "../base/errno.ts";
import { swapOff } from "../fault/swap-off-phases.ts";
import type { HugeState } from "../huge/knobs.ts";
import { addDevice, type DeviceOptions } from "../swap/devices.ts";

/** Starts swapping to a new device: its number (the "type" in entries and in pagemap), or -EINVAL, -EBUSY. */
export function sysSwapon(m: HugeState, options: DeviceOptions): number | Err {
  return addDevice(m, options);
}

/**
 * Stops it: everything comes back into memory (PHYS-118). 0; -EINVAL for no device; -ENOMEM, and the device stays in use, as
 * with -EINTR, where it would have to wait for an operation that is held.
 */
export function sysSwapoff(m: HugeState, type: number): Err {
  return swapOff(m, type);
}
