// Elements of the page, and how numbers are written on it.

export const NAMES = { keyframes: "Keyframes", interpolation: "Interpolation", super_resolution: "Super-resolution", translation: "Translation" };
export const still = matchMedia("(prefers-reduced-motion: reduce)");

export const $ = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

export const button = (text, onclick, attributes = {}) => make("button", { type: "button", onclick, ...attributes }, text);
export const setText = (element, text) => { if (element.textContent !== text) element.textContent = text; };
export const say = (text) => { $("live").textContent = text; };

export function player(source, label, controls = false) {
  const video = make("video", { src: source, loop: true, playsinline: true, controls, preload: "auto", "aria-label": label });
  video.muted = true;
  if (!still.matches) video.autoplay = true;
  return video;
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
