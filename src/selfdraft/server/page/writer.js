/** One request from its first chunk to its last, and what became of it. */

/**
 * Write an answer. Every piece goes to `onPiece(text, sources)` as it arrives.
 *
 * Never throws: `failure` is null if the answer is whole, else the error; `isStopped` says that the
 * user ended it. What came before stays. `pieces` have the milliseconds since the request was
 * sent, so that the writing can be shown again at its own pace.
 */
export async function write(api, body, { signal, tally, onPiece, onWait }) {
  const pieces = [];
  const outcome = { body, tally, pieces, text: "", metrics: null, failure: null, isStopped: false };
  let start = performance.now();
  const onSend = () => {
    start = performance.now();
  };
  try {
    for await (const chunk of api.chat(body, { signal, onWait, onSend })) {
      const now = performance.now();
      const text = chunk.choices?.[0]?.delta?.content ?? "";
      const sources = (chunk.sources ?? []).map((token) => token.source);
      if (chunk.metrics) outcome.metrics = chunk.metrics;
      if (text === "" && sources.length === 0) continue;
      outcome.text += text;
      tally.add(sources, now);
      pieces.push({ at: now - start, text, sources });
      onPiece(text, sources);
    }
  } catch (error) {
    outcome.isStopped = signal.aborted;
    outcome.failure = error;
  }
  outcome.firstTokenSeconds = tally.firstAt === null ? null : (tally.firstAt - start) / 1000;
  return outcome;
}

/** Tokens per second of an answer: the server's own figure, which is of decoding only, if known. */
export function rateOf(outcome) {
  return outcome.metrics?.tokens_per_second || outcome.tally.rate;
}
