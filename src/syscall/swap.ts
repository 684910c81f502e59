/**
 * swapon(2) and swapoff(2), with the device given by its size or its number instead of a path.
 *
 * Privileges are not modelled: the caller may do it.
 */

import { EINVAL, type Err } from "../base/errno.ts";
import { unuseDevice } from "../fault/swap-off.ts";
import type { HugeState } from "../huge/knobs.ts";
import { addDevice, type DeviceOptions, removeDevice } from "../swap/devices.ts";

/** Starts swapping to a new device: its number (the "type" in entries and in pagemap), or -EINVAL, -EBUSY. */
export function sysSwapon(m: HugeState, options: DeviceOptions): number | Err {
  return addDevice(m, options);
}

/** Stops it: everything comes back into memory (PHYS-118). 0; -EINVAL for no device; -ENOMEM, and the device stays in use. */
export function sysSwapoff(m: HugeState, type: number): Err {
  const device = m.swap.devices[type];
  if (device === null || device === undefined) return -EINVAL;
  device.isWritable = false;
  const failed = unuseDevice(m, type);
  if (failed !== 0) {
    device.isWritable = true;
    return failed;
  }
  removeDevice(m, type);
  return 0;
}
