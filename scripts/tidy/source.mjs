/**
 * A source file as the tidy checks see it: its text, and the same text with comments or strings blanked out.
 *
 * Blanking keeps every offset and every line break, so that a match found in `code` has the line it has in the file.
 * This is a scanner, not a parser: enough for code that the compiler has already accepted.
 */

/**
 * @typedef {object} Source
 * @property {string} path   relative to the project, with "/"
 * @property {string} text   as read
 * @property {string} bare   comments blanked
 * @property {string} code   comments and the insides of strings and regular expressions blanked
 */

/** @returns {Source} */
export function source(path, text) {
  const { bare, code } = blank(text);
  return { path, text, bare, code };
}

/** Line number (from 1) of an offset. */
export function lineAt(text, offset) {
  let line = 1;
  for (let i = text.indexOf("\n"); i >= 0 && i < offset; i = text.indexOf("\n", i + 1)) line++;
  return line;
}

/** A finding of one check at an offset of a file. */
export function finding(file, offset, message) {
  return { path: file.path, line: lineAt(file.text, offset), message };
}

/** A regular expression may stand after one of these; after a name, a number or a bracket a slash divides. */
const BEFORE_REGEX =
  /(?:^|[(,=:[!&|?{};+\-*%<>~^]|\b(?:return|typeof|case|in|of|else|do|throw))\s*$/;

function blank(text) {
  const bare = [...text.split("")];
  const code = [...bare];
  /** Depths of braces at which a template's `${` was opened. */
  const templates = [];
  let depth = 0;
  let i = 0;

  const erase = (out, from, to) => {
    for (let k = from; k < to; k++) if (out[k] !== "\n") out[k] = " ";
  };
  /** Index just behind the piece of a template that starts at `from` (behind "`" or "}"). */
  const endOfTemplate = (from) => {
    let k = from;
    while (k < text.length) {
      if (text[k] === "\\") k += 2;
      else if (text[k] === "`") return { next: k + 1, inner: k, opens: false };
      else if (text[k] === "$" && text[k + 1] === "{")
        return { next: k + 2, inner: k, opens: true };
      else k++;
    }
    return { next: k, inner: k, opens: false };
  };
  const template = (from) => {
    const piece = endOfTemplate(from);
    erase(code, from, piece.inner);
    if (piece.opens) templates.push(depth++);
    return piece.next;
  };

  while (i < text.length) {
    const c = text[i];
    if (c === "/" && (text[i + 1] === "/" || text[i + 1] === "*")) {
      const close = text[i + 1] === "/" ? text.indexOf("\n", i) : text.indexOf("*/", i + 2) + 2;
      const end = close < i ? text.length : close;
      erase(bare, i, end);
      erase(code, i, end);
      i = end;
    } else if (c === "#" && i === 0 && text[1] === "!") {
      const end = text.indexOf("\n");
      erase(bare, 0, end);
      erase(code, 0, end);
      i = end;
    } else if (c === '"' || c === "'") {
      const end = endOfString(text, i);
      erase(code, i + 1, end - 1);
      i = end;
    } else if (c === "`") {
      i = template(i + 1);
    } else if (c === "/" && BEFORE_REGEX.test(text.slice(Math.max(0, i - 40), i))) {
      const end = endOfRegex(text, i);
      erase(code, i + 1, end - 1);
      i = end;
    } else if (c === "{") {
      depth++;
      i++;
    } else if (c === "}") {
      depth--;
      i++;
      if (templates.length > 0 && templates.at(-1) === depth) {
        templates.pop();
        i = template(i);
      }
    } else {
      i++;
    }
  }
  return { bare: bare.join(""), code: code.join("") };
}

function endOfString(text, start) {
  let k = start + 1;
  while (k < text.length && text[k] !== text[start] && text[k] !== "\n") {
    k += text[k] === "\\" ? 2 : 1;
  }
  return k + 1;
}

function endOfRegex(text, start) {
  let inClass = false;
  let k = start + 1;
  while (k < text.length && text[k] !== "\n") {
    if (text[k] === "\\") k++;
    else if (text[k] === "[") inClass = true;
    else if (text[k] === "]") inClass = false;
    else if (text[k] === "/" && !inClass) return k + 1;
    k++;
  }
  return k;
}
