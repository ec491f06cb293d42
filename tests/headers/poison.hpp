// SPDX-License-Identifier: Apache-2.0
//
// Names that well-known headers define as macros. A header of ours that uses one of them as an
// identifier would not compile after that header.
#pragma once

#define I poisoned ]          // <complex.h>
#define B0 poisoned ]         // <termios.h>
#define major poisoned ]      // <sys/sysmacros.h>
#define minor poisoned ]      // <sys/sysmacros.h>
#define makedev poisoned ]    // <sys/sysmacros.h>
#define small poisoned ]      // <windows.h>
#define near poisoned ]       // <windows.h>
#define far poisoned ]        // <windows.h>
#define interface poisoned ]  // <windows.h>
#define ERROR poisoned ]      // <windows.h>
#define Bool poisoned ]       // <X11/Xlib.h>
#define Status poisoned ]     // <X11/Xlib.h>
#define emit poisoned ]       // Qt
#define signals poisoned ]    // Qt
