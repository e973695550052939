/** Server-sent events from the body of a response. EventSource cannot POST. */

/**
 * Yield the data of each event as text. Ends when the stream ends, whole or not.
 *
 * A pipe through TextDecoderStream would forget, when the connection breaks, what it holds.
 */
export async function* readEvents(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let held = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      held += decoder.decode(value, { stream: true });
      const events = held.split(/\r?\n\r?\n/);
      held = events.pop();
      for (const event of events) {
        const data = dataOf(event);
        if (data !== null) yield data;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // the stream may have failed, which its reader knows already
  }
}

/** The data lines of an event, or null for a comment. */
function dataOf(event) {
  const lines = event.split(/\r?\n/).filter((line) => line.startsWith("data:"));
  if (lines.length === 0) return null;
  return lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n");
}
