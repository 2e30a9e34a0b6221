/** Canonical bytes of operations, as they stand in bundles. Written by the store's owner: see encodeOperation, decodeOperation. */
export {};
