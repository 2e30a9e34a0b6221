/**
 * Making folders, and what the system's refusals mean in words.
 */
import { makeDirectory } from "../storage/log-segment.ts";

/** A folder that is not there and cannot be made; the message names it and says why. */
export class FolderError extends Error {
  override name = "FolderError";
}

/** The system's code of an error, `ENOENT` for example; undefined when it has none. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/** Why a file or a folder could not be used, in words. */
export function fileProblem(error: unknown): string {
  const code = errorCode(error);
  if (code === "ENOENT") return "no such file";
  if (code === "EACCES" || code === "EPERM") return "permission denied";
  if (code === "EISDIR") return "is a folder, not a file";
  if (code === "EEXIST" || code === "ENOTDIR") return "is a file, or lies in one, not in a folder";
  if (code === "EROFS") return "lies on a read-only file system";
  if (code === "ENOSPC") return "no space left";
  return error instanceof Error ? error.message : String(error);
}

/** Why a folder could not be used or made, in words. */
export function folderProblem(error: unknown): string {
  return errorCode(error) === "ENOENT" ? "no folder can be made there" : fileProblem(error);
}

/** Makes a folder, private to its owner, and those above it that are missing; throws FolderError. */
export function makeFolder(path: string): void {
  try {
    makeDirectory(path);
  } catch (error) {
    // The folder that was refused, which may be one above.
    const refused = error instanceof Error && "path" in error ? error.path : path;
    throw new FolderError(`${refused}: ${folderProblem(error)}`);
  }
}
