/** The payload of SETTINGS frames. */
import { ErrorCode, FRAME_SIZE_DEFAULT_BYTES, Setting, WINDOW_MAX_BYTES } from "./constants.ts";
import { ConnectionError } from "./protocol-error.ts";

export type SettingValue = readonly [setting: number, value: number];

const SIZE_BYTES = 6;
const FRAME_SIZE_LIMIT_BYTES = 0xffffff;

export function encodeSettings(values: readonly SettingValue[]): Buffer {
  const payload = Buffer.alloc(SIZE_BYTES * values.length);
  for (const [i, [setting, value]] of values.entries()) {
    payload.writeUInt16BE(setting, SIZE_BYTES * i);
    payload.writeUInt32BE(value, SIZE_BYTES * i + 2);
  }
  return payload;
}

/** The settings in their order, those that we know within their bounds. Throws ConnectionError. */
export function decodeSettings(payload: Buffer): SettingValue[] {
  if (payload.length % SIZE_BYTES !== 0) {
    throw new ConnectionError(ErrorCode.frameSizeError, "settings cut short");
  }
  const values: SettingValue[] = [];
  for (let at = 0; at < payload.length; at += SIZE_BYTES) {
    const setting = payload.readUInt16BE(at);
    const value = payload.readUInt32BE(at + 2);
    if (setting === Setting.initialWindowSize && value > WINDOW_MAX_BYTES) {
      throw new ConnectionError(ErrorCode.flowControlError, "window too large");
    }
    const isFrameSize = value >= FRAME_SIZE_DEFAULT_BYTES && value <= FRAME_SIZE_LIMIT_BYTES;
    if (setting === Setting.maxFrameSize && !isFrameSize) {
      throw new ConnectionError(ErrorCode.protocolError, "no frame size");
    }
    values.push([setting, value]);
  }
  return values;
}
