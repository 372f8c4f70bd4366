// As much of React as the hook needs, under StrictMode: an effect is run, cleaned up at once, and run again.

let component = null;

export function useState(initial) {
  component.state ??= { value: initial };
  const { state, changed } = component;
  const set = (next) => {
    state.value = typeof next === "function" ? next(state.value) : next;
    changed(state.value);
  };
  return [state.value, set];
}

export function useEffect(effect) {
  component.effects.push(effect);
}

/** Mounts a hook; `changed` gets each of its states. Returns what unmounts it. */
export function mount(hook, changed) {
  component = { effects: [], changed };
  hook();
  const { effects } = component;
  component = null;
  for (const cleanUp of effects.map((effect) => effect())) cleanUp?.();
  const cleanUps = effects.map((effect) => effect());
  return () => cleanUps.forEach((cleanUp) => cleanUp?.());
}
