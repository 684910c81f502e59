/**
 * Rule IDs: those cited exist in docs/rules, and a test's title names its rules first, so that a report reads by rule.
 */
import { malformedIds, ruleIds, testTitles } from "../rule-coverage.mjs";
import { finding } from "./source.mjs";

/** One or more IDs, then the sentence. */
const IDS_FIRST = /^(?:[A-Z]+-\d{3}[ ,]+)+[^\s,]/;

/** IDs that docs/rules does not define, wherever a file names one. */
export function checkCitedRules(file, rules) {
  const findings = [];
  for (const match of file.text.matchAll(/\b[A-Z]{3,4}[-_]?\d+\b/g)) {
    const [id] = match;
    if (malformedIds(id).length > 0) {
      findings.push(finding(file, match.index, `${id} is no rule ID: three digits behind a dash`));
    } else if (ruleIds(id).length > 0 && !rules.has(id)) {
      findings.push(finding(file, match.index, `${id} is not in docs/rules`));
    }
  }
  return findings;
}

/** Titles whose IDs would not be counted, or would be counted for a test that never runs. */
export function checkTitles(file) {
  const findings = [];
  for (const { modifier, title, offset } of testTitles(file.text)) {
    if (/\.(?:only|skip|todo|fails)\b/.test(modifier)) {
      findings.push(finding(file, offset, `test${modifier}: a test runs or is not there`));
    }
    const ids = ruleIds(title);
    if (ids.length === 0) continue;
    const afterIds = title.replace(IDS_FIRST, "");
    if (!IDS_FIRST.test(title) || ruleIds(afterIds).length > 0) {
      findings.push(
        finding(file, offset, `rule IDs come first in a title, then the sentence: "${title}"`),
      );
    }
  }
  for (const match of file.bare.matchAll(/\.(?:each|for)\([\s\S]*?\)\(\s*["'`]([^"'`\n]*)/g)) {
    if (ruleIds(match[1]).length > 0) {
      const message = `a rule ID in a title of each() is not counted: loop over test() instead`;
      findings.push(finding(file, match.index, message));
    }
  }
  return findings;
}
