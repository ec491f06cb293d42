// SPDX-License-Identifier: Apache-2.0
//
// Uses the headers that are precompiled for all tests, so that they are; see cmake/MorTest.cmake.
