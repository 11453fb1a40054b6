// What the pages do beyond links and forms. Without it they all work; with it they keep themselves up to date, say what
// came of a change without being loaded again, and can be used by keyboard. No other file is loaded from anywhere else.

import { followConsole } from "./console.js";
import { findInConsole } from "./find.js";
import { followLab } from "./live.js";
import { takeForms } from "./forms.js";
import { followGrowth } from "./growing.js";
import { takeKeys } from "./keys.js";
import { tellOfEnds } from "./notify.js";
import { takePalette } from "./palette.js";
import { takeRows } from "./rows.js";
import { keepTimes } from "./times.js";

document.documentElement.classList.add("scripted");
keepTimes();
takeForms();
takeKeys();
takePalette();
takeRows();
followLab();
followConsole();
findInConsole();
tellOfEnds();
followGrowth();
