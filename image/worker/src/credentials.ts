// Keys for R2 that expire and reach one prefix only, so that no container ever holds the long-lived ones.
// https://developers.cloudflare.com/r2/api/s3/temporary-credentials/

const API = "https://api.cloudflare.com/client/v4";

/** The platform's maximum is 7 days; a container is replaced before its keys expire, at the first quiet moment. */
export const LIFETIME_SECONDS = 3 * 24 * 3600;
/** From here on a quiet moment is looked for. */
export const REPLACE_AFTER_SECONDS = LIFETIME_SECONDS / 2;
/** Here, there is no more waiting for one. */
export const REPLACE_AT_LAST_SECONDS = LIFETIME_SECONDS - 3600;

export interface Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken: string;
}

export interface Wanted {
  account: string;
  apiToken: string;
  parentAccessKeyId: string;
  bucket: string;
  /** Without a trailing slash; empty for the whole bucket. */
  prefix: string;
}

/** New keys. Raises `Error` with what the API said, never with a key. */
export async function mint(wanted: Wanted, fetcher: typeof fetch = fetch): Promise<Credentials> {
  const response = await fetcher(`${API}/accounts/${encodeURIComponent(wanted.account)}/r2/temp-access-credentials`, {
    method: "POST",
    headers: { Authorization: `Bearer ${wanted.apiToken}`, "Content-Type": "application/json" },
    body: JSON.stringify({
      bucket: wanted.bucket,
      parentAccessKeyId: wanted.parentAccessKeyId,
      permission: "object-read-write",
      ttlSeconds: LIFETIME_SECONDS,
      ...(wanted.prefix === "" ? {} : { prefixes: [`${wanted.prefix}/`] }),
    }),
    signal: AbortSignal.timeout(10_000),
  });
  const document = await response.json<{ result?: Partial<Credentials>; errors?: { code?: number; message?: string }[] }>().catch(() => undefined);
  const { accessKeyId, secretAccessKey, sessionToken } = document?.result ?? {};
  if (!response.ok || !accessKeyId || !secretAccessKey || !sessionToken) {
    const said = document?.errors?.map((error) => `${error.code ?? ""} ${error.message ?? ""}`.trim()).join("; ");
    throw new Error(`R2 gave no temporary keys (${response.status}${said ? `: ${said}` : ""}); check CF_R2_API_TOKEN`);
  }
  return { accessKeyId, secretAccessKey, sessionToken };
}
