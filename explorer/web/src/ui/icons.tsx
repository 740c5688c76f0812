/** Icons, drawn here so that none is fetched. */
const PATHS = {
  search: "M10.5 10.5 15 15M6.8 12A5.2 5.2 0 1 0 6.8 1.6a5.2 5.2 0 0 0 0 10.4",
  sun: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6M8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.2 1.2M11.8 11.8 13 13M13 3l-1.2 1.2M4.2 11.8 3 13",
  moon: "M13.5 9.6A6 6 0 0 1 6.4 2.5a6 6 0 1 0 7.1 7.1",
  left: "M10 3 5 8l5 5",
  right: "m6 3 5 5-5 5",
  dice: "M3 3h10v10H3zM5.8 5.8h.01M10.2 5.8h.01M8 8h.01M5.8 10.2h.01M10.2 10.2h.01",
  share: "M6.5 9.5a3 3 0 0 0 4.3 0l2.3-2.3a3 3 0 1 0-4.3-4.3L8 3.7M9.5 6.5a3 3 0 0 0-4.3 0L2.9 8.8a3 3 0 1 0 4.3 4.3l.8-.8",
  close: "m3.5 3.5 9 9m0-9-9 9",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  fit: "M2 5V2h3M11 2h3v3M14 11v3h-3M5 14H2v-3M5 8h6",
  download: "M8 2v8m0 0 3-3m-3 3L5 7M3 13h10",
  lasso: "M8 10.5c-3.6 0-6-1.7-6-4s2.4-4 6-4 6 1.7 6 4-2.4 4-6 4m-2.5-.3c-.4 1.6.4 2.3.2 3.8",
  hand: "M8 2v12M2 8h12M8 2 6.4 3.6M8 2l1.6 1.6M8 14l-1.6-1.6M8 14l1.6-1.6M2 8l1.6-1.6M2 8l1.6 1.6M14 8l-1.6-1.6M14 8l-1.6 1.6",
  check: "m3 8.5 3.2 3L13 4.5",
  help: "M5.6 6a2.4 2.4 0 1 1 3.5 2.1c-.8.4-1.1.8-1.1 1.7M8 12.4h.01",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 16 }: { name: IconName; size?: number }) {
  return (
    <svg className="icon" width={size} height={size} viewBox="0 0 16 16" aria-hidden="true">
      <path d={PATHS[name]} fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinecap="round" strokeLinejoin="round" />
    </svg>
  );
}
