/**
 * A small protobuf codec for comparing stores: it shows what was on the wire. Scalars at their default are left
 * out of a decoded message whether they were sent or not (both mean the same), a message that is there but empty
 * is kept (`{}`: an absent response header is a difference that clients notice), and a field that the schema does
 * not know is kept as `?<number>`. Bytes are byte strings (base/bytes.ts).
 */

/** A decoded message, or one to encode. Fields of kind `int` are numbers, of kind `id` bigints. */
export interface Message {
  [field: string]: Value | undefined;
}
export type Value = number | bigint | boolean | string | Message | Value[];

type ScalarKind = "int" | "id" | "unsignedId" | "bool" | "bytes" | "string";

interface Field {
  readonly name: string;
  readonly number: number;
  readonly kind: ScalarKind | "message";
  readonly repeated: boolean;
  /** A function, because messages may contain themselves. */
  readonly schema: (() => Schema) | undefined;
}

export interface Schema {
  readonly name: string;
  readonly fields: readonly Field[];
  readonly byNumber: ReadonlyMap<number, Field>;
  readonly byName: ReadonlyMap<string, Field>;
}

type FieldSpec = readonly [number, ScalarKind | (() => Schema), "repeated"?];

/** A message type: field names with number, kind (or the message type) and whether it repeats. */
export function schema(name: string, specs: { readonly [field: string]: FieldSpec }): Schema {
  const fields = Object.entries(specs).map(([field, [number, kind, repeated]]): Field => {
    const common = { name: field, number, repeated: repeated === "repeated" };
    return typeof kind === "function"
      ? { ...common, kind: "message", schema: kind }
      : { ...common, kind, schema: undefined };
  });
  return {
    name,
    fields,
    byNumber: new Map(fields.map((field) => [field.number, field])),
    byName: new Map(fields.map((field) => [field.name, field])),
  };
}

/** Bytes that are no message of the schema. */
export class WireError extends Error {
  override name = "WireError";
}

/** The message as protobuf bytes. Fields are written in the order of the object's keys. */
export function encode(type: Schema, message: Message): Buffer {
  const parts: Buffer[] = [];
  for (const [name, value] of Object.entries(message)) {
    const field = type.byName.get(name);
    if (field === undefined) throw new WireError(`${type.name} has no field ${name}`);
    if (value === undefined) continue;
    for (const item of field.repeated ? (value as Value[]) : [value]) encodeField(field, item, parts);
  }
  return Buffer.concat(parts);
}

function encodeField(field: Field, value: Value, parts: Buffer[]): void {
  switch (field.kind) {
    case "message":
      pushBytes(field.number, encode(field.schema!(), value as Message), parts);
      return;
    case "bytes":
      pushBytes(field.number, Buffer.from(value as string, "latin1"), parts);
      return;
    case "string":
      pushBytes(field.number, Buffer.from(value as string, "utf8"), parts);
      return;
    case "bool":
    case "int":
    case "id":
    case "unsignedId":
      parts.push(
        varint(field.number << 3),
        varint(typeof value === "boolean" ? Number(value) : (value as number)),
      );
  }
}

function pushBytes(number: number, bytes: Buffer, parts: Buffer[]): void {
  parts.push(varint((number << 3) | 2), varint(bytes.length), bytes);
}

/** Negative numbers take ten bytes, as protobuf's int64 does. */
function varint(value: number | bigint): Buffer {
  const bytes: number[] = [];
  if (value >= 0 && value < 0x80000000) {
    let small = Number(value);
    for (; small >= 128; small >>>= 7) bytes.push((small & 127) | 128);
    bytes.push(small);
    return Buffer.from(bytes);
  }
  let rest = BigInt.asUintN(64, BigInt(value));
  while (rest >= 128n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

class Reader {
  readonly bytes: Buffer;
  at = 0;
  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  varint(): bigint {
    let low = 0;
    let shift = 0;
    // Most are small: stay in numbers as long as they fit.
    while (shift < 28) {
      const byte = this.byte();
      low |= (byte & 127) << shift;
      if (byte < 128) return BigInt(low);
      shift += 7;
    }
    let value = BigInt(low);
    for (let bits = 28n; bits < 70n; bits += 7n) {
      const byte = this.byte();
      value |= BigInt(byte & 127) << bits;
      if (byte < 128) return BigInt.asUintN(64, value);
    }
    throw new WireError("a varint of more than ten bytes");
  }

  byte(): number {
    const byte = this.bytes[this.at];
    if (byte === undefined) throw new WireError("a message that is cut off");
    this.at += 1;
    return byte;
  }

  slice(): Buffer {
    const length = Number(this.varint());
    const end = this.at + length;
    if (end > this.bytes.length) throw new WireError("a field longer than its message");
    const part = this.bytes.subarray(this.at, end);
    this.at = end;
    return part;
  }
}

/**
 * The message in the bytes.
 * @throws WireError when they are none.
 */
export function decode(type: Schema, bytes: Buffer): Message {
  const reader = new Reader(bytes);
  const message: Message = {};
  while (reader.at < bytes.length) {
    const tag = Number(reader.varint());
    const number = tag >>> 3;
    const raw = readRaw(reader, tag & 7);
    const field = type.byNumber.get(number);
    if (field === undefined) {
      message[`?${number}`] = typeof raw === "bigint" ? raw : raw.toString("latin1");
      continue;
    }
    const value = decodeValue(field, raw);
    if (field.repeated) {
      const list = (message[field.name] ??= []) as Value[];
      list.push(value);
    } else if (!isDefault(value)) {
      message[field.name] = value;
    }
  }
  return message;
}

function readRaw(reader: Reader, wireType: number): bigint | Buffer {
  if (wireType === 0) return reader.varint();
  if (wireType === 2) return reader.slice();
  throw new WireError(`a field of wire type ${wireType}`);
}

function decodeValue(field: Field, raw: bigint | Buffer): Value {
  if (typeof raw === "bigint") {
    switch (field.kind) {
      case "bool":
        return raw !== 0n;
      case "int":
        return Number(BigInt.asIntN(64, raw));
      case "id":
        return BigInt.asIntN(64, raw);
      case "unsignedId":
        return raw;
      default:
        throw new WireError(`field ${field.name} is a number on the wire`);
    }
  }
  switch (field.kind) {
    case "message":
      return decode(field.schema!(), raw);
    case "bytes":
      return raw.toString("latin1");
    case "string":
      return raw.toString("utf8");
    default:
      throw new WireError(`field ${field.name} is no number on the wire`);
  }
}

function isDefault(value: Value): boolean {
  return value === 0 || value === 0n || value === false || value === "";
}
