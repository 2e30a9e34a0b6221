/**
 * Host and port texts, as they stand in config files and on command lines.
 */

/** One address to listen on or to connect to. */
export interface Address {
  /** Name or IP address, an IPv6 one without brackets. */
  readonly host: string;
  /** 1 to 65535. */
  readonly port: number;
}

/** Reads `host:port` or `[v6]:port`; undefined when the text is neither. */
export function parseAddress(text: string): Address | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:/[\]]+)):(\d{1,5})$/.exec(text);
  if (match === null) return undefined;
  const port = Number(match[3]);
  if (port < 1 || port > 65535) return undefined;
  return { host: match[1] ?? match[2]!, port };
}

/** `host:port`, IPv6 in brackets. */
export function formatAddress(address: Address): string {
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** An address with the scheme in front: whether TLS is spoken there. */
export interface Endpoint extends Address {
  readonly tls: boolean;
}

/** Reads `http://host:port` or `https://host:port` without a path; undefined when the text is neither. */
export function parseEndpoint(text: string): Endpoint | undefined {
  const match = /^(https?):\/\/([^/?#]+)\/?$/.exec(text);
  if (match === null) return undefined;
  const address = parseAddress(match[2]!);
  return address === undefined ? undefined : { ...address, tls: match[1] === "https" };
}

/** `http://host:port` or `https://host:port`. */
export function formatEndpoint(endpoint: Endpoint): string {
  return `${endpoint.tls ? "https" : "http"}://${formatAddress(endpoint)}`;
}
