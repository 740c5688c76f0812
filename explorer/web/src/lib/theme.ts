/** Light or dark: as the system says, unless a person chose. */
import { createContext, useContext, useEffect, useMemo, useState, useSyncExternalStore } from "react";

export type Choice = "system" | "light" | "dark";
const KEY = "explorer.theme";
const QUERY = "(prefers-color-scheme: dark)";

function stored(): Choice {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "system";
  } catch {
    return "system"; // storage may be refused
  }
}

export interface Theme {
  choice: Choice;
  dark: boolean;
  choose(choice: Choice): void;
}

export const ThemeContext = createContext<Theme>({ choice: "system", dark: false, choose: () => {} });
export const useTheme = (): Theme => useContext(ThemeContext);

/** The state behind ThemeContext; sets data-theme on the root element. */
export function useThemeState(): Theme {
  const [choice, setChoice] = useState<Choice>(stored);
  const system = useSyncExternalStore(
    (changed) => {
      const media = window.matchMedia(QUERY);
      media.addEventListener("change", changed);
      return () => media.removeEventListener("change", changed);
    },
    () => window.matchMedia(QUERY).matches,
  );
  const dark = choice === "system" ? system : choice === "dark";
  useEffect(() => {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
  }, [dark]);
  return useMemo(
    () => ({
      choice,
      dark,
      choose(next) {
        setChoice(next);
        try {
          if (next === "system") localStorage.removeItem(KEY);
          else localStorage.setItem(KEY, next);
        } catch {
          // lasts until the page closes
        }
      },
    }),
    [choice, dark],
  );
}
