/** Copy a text, and say on the button that it was done. */

const SHOWN_MS = 2000;

export async function copyText(text, button) {
  const label = button.textContent;
  button.textContent = (await write(text)) ? "Copied" : "Not copied: select the text";
  setTimeout(() => {
    button.textContent = label;
  }, SHOWN_MS);
}

async function write(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return writeOldWay(text); // the clipboard is there only on https and localhost
  }
}

function writeOldWay(text) {
  const field = document.createElement("textarea");
  const focused = document.activeElement;
  field.value = text;
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  focused?.focus();
  return isCopied;
}
