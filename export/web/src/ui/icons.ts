/** Paths of the page's icons, drawn in 24 × 24. */
export const ICONS = {
  file: "M14 3H6v18h12V7zM14 3v4h4M12 11v6M9 14h6",
  folder: "M3 6h6l2 2h10v11H3z",
  beside: "M3 5h8v14H3zM13 5h8v14h-8z",
  close: "M6 6l12 12M18 6L6 18",
  crosshair: "M12 3v6M12 15v6M3 12h6M15 12h6",
  brush: "M4 20c3 0 5-1 5-3.5a2.5 2.5 0 0 1 4 2C13 20.5 9 21 4 20zM11 14L19 4l2 2-8 9",
  eraser: "M8 20l-5-5L14 4l6 6-10 10zM8 20h12M9 9l6 6",
  undo: "M9 7L4 11l5 4M4 11h10a6 6 0 0 1 0 9h-3",
  redo: "M15 7l5 4-5 4M20 11H10a6 6 0 0 0 0 9h3",
  eye: "M2 12c3-5 6-7 10-7s7 2 10 7c-3 5-6 7-10 7s-7-2-10-7zM12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
  outline: "M12 4c5 0 8 3 8 7s-3 9-8 9-8-4-8-9 3-7 8-7z",
  reset: "M4 9V4h5M4 4l5 5M20 15v5h-5M20 20l-5-5",
  link: "M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M19 5l-2 2M7 17l-2 2",
  moon: "M20 14A8 8 0 0 1 10 4a8 8 0 1 0 10 10z",
  play: "M7 4l13 8-13 8z",
  save: "M12 4v10M8 10l4 4 4-4M4 18v2h16v-2",
} as const;

export type IconName = keyof typeof ICONS;
