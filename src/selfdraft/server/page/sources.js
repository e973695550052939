/** Who can name a token: the words of the API, and how the page calls them. */

export const SOURCES = ["target", "model", "text", "earlier", "recycled"];

const NAMES = {
  target: "target",
  model: "self-draft",
  text: "copied from this text",
  earlier: "copied from an earlier text",
  recycled: "recycled",
};

const EXPLANATIONS = {
  target: "the model's own token at the end of a round",
  model: "drafted by the model with layers skipped or fewer bits, then verified",
  text: "drafted by copying from this request's text, then verified",
  earlier: "drafted by copying from an earlier request, then verified",
  recycled: "drafted from the model's own earlier runners-up, then verified",
};

/** What the legend calls a source; one that this page does not know keeps its own name. */
export const nameOf = (source) => NAMES[source] ?? source;

/** One line about a source. */
export const explanationOf = (source) => EXPLANATIONS[source] ?? "";

/** The title of a piece: all its tokens in order. */
export function titleOf(sources) {
  if (sources.length === 1) return nameOf(sources[0]);
  return `${sources.length} tokens: ${sources.map(nameOf).join(", ")}`;
}
