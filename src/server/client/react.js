import { useEffect, useRef, useState } from "react";
import { makeUseAnimeProgress } from "./hook.js";

/** Follows a job: {progress, status, message, error, isConnected, eta, interval, preview, outputs, …}. */
export const useAnimeProgress = makeUseAnimeProgress({ useEffect, useRef, useState });
